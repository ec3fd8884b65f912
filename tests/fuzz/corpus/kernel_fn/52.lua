return j > i
