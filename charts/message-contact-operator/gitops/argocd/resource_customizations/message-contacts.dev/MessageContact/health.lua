-- Health of a MessageContact: what its conditions say, in Argo CD's words.
-- Suspended is whoever waits for a person, Degraded what waiting alone does not help.

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
local synced, ready, bound = conditions["Synced"], conditions["Ready"], conditions["Bound"]

if ready == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "The operator has not looked at this generation yet")
end
if synced ~= nil and synced.reason == "Suspended" then
  return health("Suspended", synced.message)
end
if ready.status == "True" then
  return health("Healthy", ready.message)
end
if conditions["Stalled"] ~= nil and conditions["Stalled"].status == "True" then
  return health("Degraded", conditions["Stalled"].message)
end

-- Whoever has to click, to act in the console, or to decide about a difference; or a whole day is
-- to pass.
local waits_for_a_person = {
  Drifted = true,
  NotRemovable = true,
  NotSent = true,
  VerificationQuotaExhausted = true,
  VerificationSent = true,
}
-- The cloud may bind a contact only once its owner has confirmed. `Synced` then says `Updating`
-- with the words of `Bound`.
local binding_waits = bound ~= nil
  and bound.reason == "VerificationPending"
  and bound.message == ready.message

if waits_for_a_person[ready.reason] or binding_waits then
  return health("Suspended", ready.message)
end
return health("Progressing", ready.message)
