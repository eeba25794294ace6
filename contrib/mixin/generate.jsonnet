// All files below `generated/`, by name: `cargo xtask mixin` writes them.
local mixin = import 'mixin.libsonnet';
local heading = '# Made from the sources beside this folder by `cargo xtask mixin`; change those.\n';
{
  'alerts.yaml': heading + std.manifestYamlDoc(mixin.prometheusAlerts, indent_array_in_object=true, quote_keys=false) + '\n',
  'rules.yaml': heading + std.manifestYamlDoc(mixin.prometheusRules, indent_array_in_object=true, quote_keys=false) + '\n',
} + {
  [name]: std.manifestJsonEx(mixin.grafanaDashboards[name], '  ') + '\n'
  for name in std.objectFields(mixin.grafanaDashboards)
}
