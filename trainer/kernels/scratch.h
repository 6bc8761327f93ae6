// Memory of one thread, kept from call to call.

#pragma once

#include <cstdlib>
#include <new>

#include "vectors.h"

namespace {

struct Scratch {
    char* memory = nullptr;
    Int room = 0, used = 0;
    ~Scratch() { std::free(memory); }
    // Begin anew with room for so many bytes, each `take` rounded up to 64.
    void begin(Int bytes) {
        if (bytes > room) {
            std::free(memory);
            room = up(bytes, 1 << 18);
            memory = static_cast<char*>(std::aligned_alloc(64, room));
            if (memory == nullptr) throw std::bad_alloc();
        }
        used = 0;
    }
    template <class T>
    T* take(Int count) {
        T* result = reinterpret_cast<T*>(memory + used);
        used += up(count * sizeof(T), 64);
        return result;
    }
};
thread_local Scratch scratch;

}  // namespace
