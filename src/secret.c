#include "secret.h"

#include "os.h"

struct secret secret;

void secret_init(void)
{
    uint64_t random[2] = {0, os_now_us()};
    os_get_random(random);
    secret.canary = secret_mix(random[0]) ^ random[1];
    secret.filling = secret_mix(secret.canary ^ random[0]);
    atomic_store_explicit(&secret.choices, secret_mix(secret.filling ^ random[1]),
                          memory_order_relaxed);
}
