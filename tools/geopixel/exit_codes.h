/** What the program returns. */
#pragma once

enum { GP_EXIT_DONE = 0, GP_EXIT_ERROR = 1, GP_EXIT_USAGE = 2, GP_EXIT_INTERRUPTED = 130 };
