local qn = require "quern"
return qn.attention {
  mask = function(b, h, i, j) -- error: E-RETURN 'mask' returns an integer, not a boolean
    return i - j
  end,
}
-- help: compare with something, such as ~= 0
