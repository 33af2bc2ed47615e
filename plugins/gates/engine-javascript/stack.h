/* Read before QuickJS's own sources. Where it believes that it runs on WASI, QuickJS does not watch how deep its stack is, and
   endless recursion ends the whole instance instead of the code that recurses. So the headers of WASI are read first, and
   then QuickJS is told that it is on another platform without threads, which keeps its check. */
#ifndef SANDHOG_STACK_H
#define SANDHOG_STACK_H
#include <inttypes.h>
#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#undef __wasi__
#define EMSCRIPTEN 1
#define __GLIBC__ 2
#endif
