-- Named masks. Each is a kernel function (b, h, i, j), or makes one; i and j are positions among the
-- keys. A size is a number, a parameter, a tensor over Hq, B or both, or a function (b, h).
local qn, entry, fail, value = ...

-- j <= i: a token sees itself and what came before.
qn.causal = function(b, h, i, j) return j <= i end

-- i - j < W: the last W keys, the token itself counted when causal.
qn.window = entry(function(W)
  local w = value(W, "qn.window")
  return function(b, h, i, j) return i - j < w(b, h) end
end)

-- -l <= j - i <= r.
qn.band = entry(function(l, r)
  local left, right = value(l, "qn.band"), value(r, "qn.band")
  return function(b, h, i, j) return j - i >= -left(b, h) and j - i <= right(b, h) end
end)

-- (i - j) % d == 0.
qn.dilated = entry(function(d)
  local step = value(d, "qn.dilated")
  return function(b, h, i, j) return (i - j) % step(b, h) == 0 end
end)

-- j < P: a prefix that everybody sees.
qn.prefix = entry(function(P)
  local p = value(P, "qn.prefix")
  return function(b, h, i, j) return j < p(b, h) end
end)

-- j < n: the first n keys stay visible (attention sinks).
qn.sinks = entry(function(n)
  local count = value(n, "qn.sinks")
  return function(b, h, i, j) return j < count(b, h) end
end)

-- i // n == j // n: blocks of n on the diagonal.
qn.blocks = entry(function(n)
  local size = value(n, "qn.blocks")
  return function(b, h, i, j) return i // size(b, h) == j // size(b, h) end
end)
