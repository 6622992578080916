/** `geopixel eval`: asks a model a data set's questions, and tells how right its text and masks are. */
#pragma once

/** The arguments behind "eval"; returns the exit code. */
int gp_command_eval(int count, char **arguments);
