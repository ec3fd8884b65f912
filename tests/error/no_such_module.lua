local qn = require "quern"
local x = require "nothing" -- error: E-REQUIRE there is no module nothing
return qn.attention {}
-- help: `require` serves "quern" and the files beside the spec, by t
