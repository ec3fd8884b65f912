function(a, b) return math.exp(b - a) end
