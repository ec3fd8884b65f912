require "x"
--file
require "x"