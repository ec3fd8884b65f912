local qn = require "quern"
return 3 -- error at 0: E-SPEC the file returns no spec
-- help: end it with `return qn.attention { .. }`
