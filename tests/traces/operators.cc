// `operators N` calls each form of operator new N times, and one of the forms of delete for each.
#include <cstdlib>
#include <new>

// gcc 10 leaves out even these calls where nobody looks at the block.
static void *kept(void *block)
{
    __asm__("" : "+r"(block));
    return block;
}

int main(int argc, char **argv)
{
    const long times = argc > 1 ? std::strtol(argv[1], nullptr, 10) : 0;
    const std::align_val_t alignment{128};
    for (long i = 0; i < times; i++) {
        ::operator delete(kept(::operator new(24)));
        ::operator delete[](kept(::operator new[](48)));
        ::operator delete(kept(::operator new(24, std::nothrow)), std::nothrow);
        ::operator delete[](kept(::operator new[](48, std::nothrow)), std::nothrow);
        ::operator delete(kept(::operator new(24, alignment)), alignment);
        ::operator delete[](kept(::operator new[](48, alignment)), alignment);
        ::operator delete(kept(::operator new(24, alignment, std::nothrow)), alignment,
                          std::nothrow);
        ::operator delete[](kept(::operator new[](48, alignment, std::nothrow)), alignment,
                            std::nothrow);
        ::operator delete(kept(::operator new(24)), sizeof(char[24]));
        ::operator delete(kept(::operator new(24, alignment)), sizeof(char[24]), alignment);
        // One that throws is none, and what follows is recorded all the same.
        try {
            ::operator delete(kept(::operator new((std::size_t)-1 / 2)));
        } catch (const std::bad_alloc &) {
        }
    }
    return 0;
}
