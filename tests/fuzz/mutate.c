/* mutate FILE TIMES: reads a trace TIMES times with a few bytes changed, cut out, doubled or cut
 * off; where no libFuzzer is, this has to do. The same changes in every run. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

enum { MOST = 1 << 20 };

static unsigned char original[MOST], changed[MOST];
static uint64_t state = 1;

static uint64_t below(uint64_t bound)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % bound;
}

static size_t change(size_t size)
{
    for (uint64_t changes = 1 + below(4); changes > 0 && size > 8; changes--) {
        size_t at = below(size), length = 1 + below(size - at < 40 ? size - at : 40);
        switch (below(5)) {
        case 0:
            changed[at] = (unsigned char)below(256);
            break;
        case 1:
            changed[at] ^= (unsigned char)(1 << below(8));
            break;
        case 2:
            memmove(changed + at, changed + at + length, size - at - length);
            size -= length;
            break;
        case 3:
            memset(changed + at, below(2) == 0 ? 0 : 255, length);
            break;
        default:
            if (below(4) == 0)
                size = at;
            else
                memmove(changed + at, changed + below(size - length + 1), length);
        }
    }
    return size;
}

int main(int argc, char **argv)
{
    int descriptor = argc == 3 ? open(argv[1], O_RDONLY) : -1;
    ssize_t size = descriptor < 0 ? -1 : read(descriptor, original, sizeof original);
    if (size <= 0) {
        fprintf(stderr, "usage: mutate FILE TIMES\n");
        return 2;
    }
    LLVMFuzzerTestOneInput(original, (size_t)size);
    for (long times = strtol(argv[2], NULL, 10); times > 0; times--) {
        memcpy(changed, original, (size_t)size);
        LLVMFuzzerTestOneInput(changed, change((size_t)size));
    }
    return 0;
}
