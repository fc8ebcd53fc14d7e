-- Health of Busbar's objects in Argo CD: one script for the four kinds. argocd-cm.yaml installs it.
--
-- An outage of a bank leaves the object Healthy, with the outage in the message: Argo CD fails a sync in which an object
-- becomes Degraded, and no change in Git repairs a bank. Alerts report outages.
local function health(status, message)
  return { status = status, message = message }
end

local status = obj.status
if status == nil or status.conditions == nil or status.observedGeneration == nil then
  return health("Progressing", "not observed yet: waiting for the operator")
end
if status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "the last change is not observed yet: waiting for the operator")
end

local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end

local function is(kind, wanted)
  return conditions[kind] ~= nil and conditions[kind].status == wanted
end

local function text(kind)
  local condition = conditions[kind]
  if condition.message == nil or condition.message == "" then
    return condition.reason
  end
  return condition.reason .. ": " .. condition.message
end

-- No other object can repair it: the spec or the operator's configuration must change.
if is("Stalled", "True") then
  return health("Degraded", text("Stalled"))
end
if is("Suspended", "True") then
  return health("Suspended", text("Suspended"))
end
if not is("Ready", "True") then
  if conditions["Ready"] == nil then
    return health("Progressing", "not verified yet: waiting for the operator")
  end
  return health("Progressing", text("Ready"))
end

-- What does not work at the moment, the worst first.
for _, bad in ipairs({
  { "CircuitOpen", "True" },
  { "Healthy", "False" },
  { "Authenticated", "False" },
  { "Available", "False" },
  { "Fresh", "False" },
  { "SchemaDrifted", "True" },
  { "Degraded", "True" },
  { "Throttled", "True" },
}) do
  if is(bad[1], bad[2]) then
    return health("Healthy", text(bad[1]))
  end
end
return health("Healthy", text("Ready"))
