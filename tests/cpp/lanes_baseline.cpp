#define RAREPIXEL_ISA baseline
#include "lanes.h"
