/** `geopixel plan`: the memory that an engine will need on a GPU, without weights and without a GPU. */
#pragma once

int gp_command_plan(int count, char **arguments);
