/** `geopixel bench`: how many answers a machine gives, and how long one takes. */
#pragma once

/** The arguments behind "bench"; returns the exit code. */
int gp_command_bench(int count, char **arguments);
