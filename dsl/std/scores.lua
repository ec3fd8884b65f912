-- Named score functions (s, b, h, i, j). A list of them in `score` is applied in turn.
local qn, entry, fail, value, tag_of = ...
local tanh = qn.tanh

-- ALiBi: s + slope * (j - i), slope as a size of a mask is; without one the geometric slopes
-- 2^(-8 (h + 1) / Hq).
qn.alibi = entry(function(slope)
  if slope ~= nil then
    local m = value(slope, "qn.alibi")
    return function(s, b, h, i, j) return s + m(b, h) * (j - i) end
  end
  local Hq = qn.dim "Hq"
  return function(s, b, h, i, j) return s + 2.0 ^ (-8.0 * (h + 1) / Hq) * (j - i) end
end)

-- c * tanh(s / c): scores stay within -c .. c.
qn.softcap = entry(function(c)
  local cap = value(c, "qn.softcap")
  return function(s, b, h, i, j) return cap(b, h) * tanh(s / cap(b, h)) end
end)

-- s + T[..]: a tensor of 1 to 4 dimensions among B, Hq, Nq and Nk.
qn.bias = entry(function(T)
  local dims = tag_of(T) == "tensor" and T.dims or {}
  local axis = {
    B = function(b, h, i, j) return b end,
    Hq = function(b, h, i, j) return h end,
    Nq = function(b, h, i, j) return i end,
    Nk = function(b, h, i, j) return j end,
  }
  local x, y, z, w = axis[dims[1]], axis[dims[2]], axis[dims[3]], axis[dims[4]]
  if #dims == 1 and x then
    return function(s, b, h, i, j) return s + T[x(b, h, i, j)] end
  elseif #dims == 2 and x and y then
    return function(s, b, h, i, j) return s + T[x(b, h, i, j)][y(b, h, i, j)] end
  elseif #dims == 3 and x and y and z then
    return function(s, b, h, i, j) return s + T[x(b, h, i, j)][y(b, h, i, j)][z(b, h, i, j)] end
  elseif #dims == 4 and x and y and z and w then
    return function(s, b, h, i, j)
      return s + T[x(b, h, i, j)][y(b, h, i, j)][z(b, h, i, j)][w(b, h, i, j)]
    end
  end
  fail("E-SPEC", "qn.bias takes a tensor whose dimensions are among B, Hq, Nq and Nk",
    "of others, write the score: function(s, b, h, i, j) return s + T[h][qn.clamp(j - i, 0, 7)] end")
end)
