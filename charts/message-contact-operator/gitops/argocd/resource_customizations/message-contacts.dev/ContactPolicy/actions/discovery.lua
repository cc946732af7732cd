local actions = {}
actions["reconcile"] = { disabled = false, iconClass = "fa fa-fw fa-sync" }
return actions
