local qn = require "quern"
return qn.attention {
  score = function(s, b, h, i, j)
    return s + slope -- error: E-NAME 'slope' is not defined
  end,
}
