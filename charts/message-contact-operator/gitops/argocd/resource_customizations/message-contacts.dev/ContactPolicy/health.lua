-- Health of a ContactPolicy: whether it is followed. That contacts violate it is not its own
-- illness: the message tells of that, and `Compliant` is there for whoever waits for it.

local function health(status, message)
  return { status = status, message = message }
end

if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", "Pending deletion")
end

local conditions = {}
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, condition in ipairs(obj.status.conditions) do
    conditions[condition.type] = condition
  end
end
local ready, stalled, compliant = conditions["Ready"], conditions["Stalled"], conditions["Compliant"]

if ready == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "The operator has not looked at this generation yet")
end
if ready.status == "True" then
  if compliant ~= nil then
    return health("Healthy", compliant.message)
  end
  return health("Healthy", ready.message)
end
if stalled ~= nil and stalled.status == "True" then
  return health("Degraded", stalled.message)
end
return health("Progressing", ready.message)
