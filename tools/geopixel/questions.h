/** A data set's questions, asked of a model, several at the same time. */
#pragma once

#include "tools/geopixel/asking.h"
#include "tools/geopixel/evaluation/dataset.h"
#include "tools/geopixel/evaluation/predictions.h"

/**
 * Opens the engine and asks what has no prediction yet, if anything, and adds the answers in the set's order.
 * Up to twice as many questions as the engine works on are on their way, no more than eight beyond those, so
 * that pictures are read meanwhile; pictures of all of them are held, and questions about one that follow
 * each other share a session. Where a question fails, or a picture cannot be read, or a signal came, nothing
 * more is asked and false is returned; answers that come nevertheless, to later questions too, are kept.
 */
bool gp_questions_ask(gp_asking *asking, const gp_dataset *dataset, gp_predictions *predictions,
                      gp_status *status);
