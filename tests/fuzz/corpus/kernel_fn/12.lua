return j > i and s or 0
