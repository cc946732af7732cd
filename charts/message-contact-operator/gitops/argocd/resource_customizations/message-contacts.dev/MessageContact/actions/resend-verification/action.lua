-- Asks the operator for one more verification message, within the limits of the directory.
local os = require("os")
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["message-contacts.dev/resendRequestedAt"] = os.date("!%Y-%m-%dT%XZ")
return obj
