/* Text and the exit code by way of the debugger or QEMU (Arm semihosting, SYS_WRITE0 and SYS_EXIT_EXTENDED). */
#ifndef SEMIHOSTING_H
#define SEMIHOSTING_H

#include <stdint.h>

static inline void semihosting(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

static inline void semihosting_write(const char *text)
{
    semihosting(0x04, text);
}

static inline void semihosting_exit(int code)
{
    const uint32_t application_exit[2] = {0x20026u, (uint32_t)code};
    for (;;) {
        semihosting(0x20, application_exit);
    }
}

#endif
