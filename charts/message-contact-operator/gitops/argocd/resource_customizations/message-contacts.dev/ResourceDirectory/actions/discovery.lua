local is_deleted = obj.metadata.deletionTimestamp ~= nil
local is_suspended = obj.spec.suspend == true

local actions = {}
actions["reconcile"] = { disabled = is_suspended, iconClass = "fa fa-fw fa-sync" }
actions["suspend"] = { disabled = is_deleted or is_suspended, iconClass = "fa fa-fw fa-pause" }
actions["resume"] = { disabled = not is_suspended, iconClass = "fa fa-fw fa-play" }
return actions
