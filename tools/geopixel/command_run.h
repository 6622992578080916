/** `geopixel run`: one picture, one question, one answer. */
#pragma once

/** Runs the command with the arguments behind its name; returns the exit code. */
int gp_command_run(int count, char **arguments);
