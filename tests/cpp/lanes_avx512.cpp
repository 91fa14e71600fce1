#include "cpu/isa_avx512.h"

#include "lanes.h"
