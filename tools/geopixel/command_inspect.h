/** `geopixel inspect`: what a checkpoint, a weight file or a raster holds, and what a raster would cost. */
#pragma once

/** Runs the command with the arguments behind its name; returns the exit code. */
int gp_command_inspect(int count, char **arguments);
