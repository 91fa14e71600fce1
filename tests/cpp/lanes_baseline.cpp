#include "cpu/isa_baseline.h"

#include "lanes.h"
