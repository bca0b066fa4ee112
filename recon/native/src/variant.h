// Names of the functions that a kernel exports: one for each instruction set it is compiled for.
#pragma once

#ifndef VARIANT
#error "compile with -DVARIANT=<name of the instruction set>"
#endif
#define NAME2(a, b) fourdvd_##a##_##b
#define NAME1(a, b) NAME2(a, b)
#define NAME(b) NAME1(VARIANT, b)
