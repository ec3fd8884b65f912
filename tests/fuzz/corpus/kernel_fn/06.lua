return s + math.floor(s)
