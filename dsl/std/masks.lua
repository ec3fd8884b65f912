-- Named masks. Each is a kernel function (b, h, i, j), or makes one; i and j are positions among the
-- keys. A size may be a number, a parameter or, inside your own function, an element of a tensor.
local qn = ...

-- j <= i: a token sees itself and what came before.
qn.causal = function(b, h, i, j) return j <= i end

-- i - j < W: the last W keys, the token itself counted when causal.
function qn.window(W)
  return function(b, h, i, j) return i - j < W end
end

-- -l <= j - i <= r.
function qn.band(l, r)
  return function(b, h, i, j) return j - i >= -l and j - i <= r end
end

-- (i - j) % d == 0.
function qn.dilated(d)
  return function(b, h, i, j) return (i - j) % d == 0 end
end

-- j < P: a prefix that everybody sees.
function qn.prefix(P)
  return function(b, h, i, j) return j < P end
end

-- j < n: the first n keys stay visible (attention sinks).
function qn.sinks(n)
  return function(b, h, i, j) return j < n end
end

-- i // n == j // n: blocks of n on the diagonal.
function qn.blocks(n)
  return function(b, h, i, j) return i // n == j // n end
end
