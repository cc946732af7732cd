local is_deleted = obj.metadata.deletionTimestamp ~= nil
local is_suspended = obj.spec.suspend == true

-- Whether an owner has been asked, or was to be asked, and has not confirmed.
local waits_for_owner = false
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, condition in ipairs(obj.status.conditions) do
    local is_channel = condition.type == "EmailVerified" or condition.type == "PhoneVerified"
    if is_channel and condition.status == "False" and condition.reason ~= "NotSent" then
      waits_for_owner = true
    end
  end
end

local actions = {}
actions["reconcile"] = { disabled = is_suspended, iconClass = "fa fa-fw fa-sync" }
actions["resend-verification"] = {
  disabled = is_deleted or is_suspended or not waits_for_owner,
  iconClass = "fa fa-fw fa-envelope",
  displayName = "Resend verification",
}
actions["suspend"] = { disabled = is_deleted or is_suspended, iconClass = "fa fa-fw fa-pause" }
actions["resume"] = { disabled = not is_suspended, iconClass = "fa fa-fw fa-play" }
return actions
