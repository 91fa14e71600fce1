#include "cpu/isa_avx2.h"

#include "lanes.h"
