return s + slope[h]
