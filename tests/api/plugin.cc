/*
 * A C++ library that dlopen.c loads into a C program: it allocates in its constructors, frees in
 * its destructors, throws, and hands memory to and fro. The only one here that needs libstdc++.
 */
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <vector>

namespace
{

struct Registry {
    std::map<std::string, std::unique_ptr<std::vector<int>>> entries;
    char *raw = static_cast<char *>(std::malloc(300000));

    Registry()
    {
        for (int i = 0; i < 1000; i++)
            entries["entry number " + std::to_string(i)] = std::make_unique<std::vector<int>>(i, i);
        std::memset(raw, 7, 300000);
    }
    ~Registry()
    {
        if (!intact())
            std::abort();
        std::free(raw);
    }
    bool intact() const
    {
        for (int i = 0; i < 300000; i++)
            if (raw[i] != 7)
                return false;
        for (int i = 0; i < 1000; i++) {
            const auto found = entries.find("entry number " + std::to_string(i));
            if (found == entries.end() || *found->second != std::vector<int>(i, i))
                return false;
        }
        return true;
    }
};

Registry registry;
thread_local std::vector<std::string> words_of_thread;

/* Runs before and after the objects above. */
void *early;
__attribute__((constructor)) void at_load()
{
    early = std::malloc(5000);
}
__attribute__((destructor)) void at_unload()
{
    std::free(early);
}

} // namespace

extern "C" {

bool plugin_is_intact()
{
    return registry.intact();
}

void *plugin_malloc(std::size_t size)
{
    return std::malloc(size);
}
void plugin_free(void *block)
{
    std::free(block);
}
void *plugin_new(std::size_t size)
{
    return ::operator new(size);
}
void plugin_delete(void *block)
{
    ::operator delete(block);
}

/* Uses memory that is the thread's own and freed at its end. */
std::size_t plugin_remember(const char *word)
{
    words_of_thread.emplace_back(word);
    return words_of_thread.size();
}

/* Whether operator new ends as the language says when there is no memory. (gcc 10 leaves out even
 * these calls where nobody looks at the block.) */
bool plugin_gets_bad_alloc(std::size_t size)
{
    try {
        void *block = ::operator new(size);
        __asm__("" : "+r"(block));
        ::operator delete(block);
        return false;
    } catch (const std::bad_alloc &) {
        return true;
    }
}

bool plugin_gets_null(std::size_t size)
{
    return ::operator new(size, std::nothrow) == nullptr;
}

namespace
{
int handler_calls;
void handler()
{
    if (++handler_calls == 2)
        std::set_new_handler(nullptr);
}
} // namespace

int plugin_handler_calls(std::size_t size)
{
    handler_calls = 0;
    std::set_new_handler(handler);
    plugin_gets_bad_alloc(size);
    std::set_new_handler(nullptr);
    return handler_calls;
}
}
