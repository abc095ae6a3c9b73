// thread_local objects whose destructors allocate and free, and the first use of another one in the
// midst of destruction.
#include "late-calls.h"
#include "support.h"

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace
{

std::atomic<unsigned long> destroyed;

struct Late {
    std::string text;
    ~Late();
};

struct Early {
    std::map<int, std::string> names;
    std::vector<std::unique_ptr<std::string>> strings;
    unsigned thread = 0;
    ~Early();
};

// Local to functions: those of a namespace are all constructed at the first use of any.
Early &early()
{
    thread_local Early object;
    return object;
}

Late &late()
{
    thread_local Late object;
    return object;
}

std::string long_text(unsigned thread, int number)
{
    return std::string(100 + number * 10, static_cast<char>('a' + (thread + number) % 26));
}

Late::~Late()
{
    std::vector<std::string> last;
    for (int i = 0; i < 20; i++)
        last.push_back(text + "!");
    if (text.empty() || last.back().size() != text.size() + 1)
        fail("C++: a thread_local string was lost before its destructor");
    destroyed++;
}

Early::~Early()
{
    for (const auto &[number, name] : names)
        if (name != long_text(thread, number) || *strings[number] != name)
            fail("C++: thread %u: string %d is damaged in a thread_local destructor", thread,
                 number);
    late().text = long_text(thread, 7); // constructed here, destroyed after this
    destroyed++;
}

} // namespace

void cxx_touch(unsigned thread)
{
    early().thread = thread;
    for (int number = 0; number < 30; number++) {
        early().names[number] = long_text(thread, number);
        early().strings.push_back(std::make_unique<std::string>(long_text(thread, number)));
    }
}

unsigned long cxx_destroyed()
{
    return destroyed;
}
