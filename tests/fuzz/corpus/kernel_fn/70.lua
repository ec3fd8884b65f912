return math.max(s, 0, i) + math.min(qn.clamp(s, -1, 1), j) - math.fmod(j, 3) + qn.tanh(s) * qn.sigmoid(s) / math.sqrt(math.exp(s)) + half(half(s, 1))
