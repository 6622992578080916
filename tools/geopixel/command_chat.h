/** `geopixel chat`: a conversation about a picture. */
#pragma once

int gp_command_chat(int count, char **arguments);
