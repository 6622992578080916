/** The planted bugs, run by number. */
#pragma once

/** Runs kernel `bug` on data [4096] (and four tensor maps), with its bug or without. */
extern "C" void run_bug(int bug, float *data, const void *maps, int planted);
