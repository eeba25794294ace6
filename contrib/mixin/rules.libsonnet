// Sums that dashboards ask for again and again.
{
  local agent = $._config.lvsAgentSelector,
  local service = 'job, instance, service',
  local rule(name, expr) = { record: name, expr: expr },

  prometheusRules+:: {
    groups+: [
      {
        name: 'lvs-agent.rules',
        rules: [
          rule('service:lvs_servers:count', 'count by (%s) (lvs_server_info{%s})' % [service, agent]),
          rule('service:lvs_servers_up:sum', 'sum by (%s) (lvs_server_up{%s})' % [service, agent]),
          rule(
            'service:lvs_servers_serving:count',
            'count by (%s) (lvs_server_table_weight{%s} > 0)' % [service, agent],
          ),
          rule(
            'service:lvs_passive_handshakes:rate5m',
            'sum by (%s) (rate(lvs_passive_handshakes_total{%s}[5m]))' % [service, agent],
          ),
          rule(
            'service:lvs_passive_handshake_seconds:p99_5m',
            'histogram_quantile(0.99, sum by (%s, le) (rate(lvs_passive_handshake_seconds_bucket{%s}[5m])))'
            % [service, agent],
          ),
          rule(
            'check:lvs_check_seconds:p99_5m',
            'histogram_quantile(0.99, sum by (job, instance, check, le) (rate(lvs_check_seconds_bucket{%s}[5m])))'
            % agent,
          ),
          // With node_exporter's names on the left, and ours as labels.
          rule(
            'server:node_ipvs_backend_connections_active:sum',
            |||
              sum by (job, instance, service, server) (
                label_replace(lvs_server_info{%(agent)s}, "%(host)s", "$1", "instance", "%(hostOf)s")
                * on (%(host)s, local_address, local_port, remote_address, remote_port, proto, local_mark)
                group_left ()
                sum by (%(host)s, local_address, local_port, remote_address, remote_port, proto, local_mark) (
                  label_replace(
                    node_ipvs_backend_connections_active{%(node)s}, "%(host)s", "$1", "instance", "%(hostOf)s"
                  )
                )
              )
            ||| % {
              agent: agent,
              node: $._config.nodeExporterSelector,
              host: $._config.hostLabel,
              hostOf: std.strReplace($._config.hostOfInstance, '\\', '\\\\'),
            },
          ),
        ],
      },
    ],
  },
}
