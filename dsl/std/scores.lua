-- Named score functions (s, b, h, i, j). A list of them in `score` is applied in turn.
local qn = ...
local tanh = qn.tanh

-- ALiBi: s + slope[h] * (j - i); without a tensor the geometric slopes 2^(-8 (h + 1) / Hq).
function qn.alibi(slope)
  if slope then
    return function(s, b, h, i, j) return s + slope[h] * (j - i) end
  end
  local Hq = qn.dim "Hq"
  return function(s, b, h, i, j) return s + 2.0 ^ (-8.0 * (h + 1) / Hq) * (j - i) end
end

-- c * tanh(s / c): scores stay within -c .. c.
function qn.softcap(c)
  return function(s, b, h, i, j) return c * tanh(s / c) end
end

-- s + T[..]: a table over [Nq, Nk], [Hq, Nq, Nk] or [B, Hq, Nq, Nk].
function qn.bias(T)
  local rank = T and T.dims and #T.dims
  if rank == 2 then
    return function(s, b, h, i, j) return s + T[i][j] end
  elseif rank == 3 then
    return function(s, b, h, i, j) return s + T[h][i][j] end
  elseif rank == 4 then
    return function(s, b, h, i, j) return s + T[b][h][i][j] end
  end
  error("qn.bias wants a tensor of 2, 3 or 4 dimensions", 2)
end
