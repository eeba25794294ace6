// What clients have: services and their servers.
local panels = import 'panels.libsonnet';
{
  local config = $._config,
  local agent = config.lvsAgentSelector + ', instance=~"$instance"',
  local all = agent + ', service=~"$service"',
  local good = [{ color: 'red', value: null }, { color: 'green', value: 1 }],
  local bad = [{ color: 'green', value: null }, { color: 'red', value: 1 }],

  grafanaDashboards+:: {
    'lvs-services.json': panels.dashboard(
      'lvs-agent-services',
      'LVS: services and servers',
      config,
      [
        panels.variable('instance', 'label_values(lvs_build_info{%s}, instance)' % config.lvsAgentSelector),
        panels.variable('service', 'label_values(lvs_server_info{%s}, service)' % agent),
      ],
      [
        panels.row('Now', 4, [
          panels.number('Services', 'count(count by (instance, service) (lvs_server_info{%s}))' % all),
          panels.number(
            'Services without a server',
            |||
              count(
                group by (instance, service) (lvs_server_info{%(all)s})
                unless on (instance, service)
                (lvs_server_table_weight{%(all)s} > 0 unless on (instance, service, server) lvs_server_up{%(all)s} == 0)
              ) or vector(0)
            ||| % { all: all },
            steps=bad,
            description='Nobody in the kernel\'s table gets connections and may be alive',
          ),
          panels.number('Without quorum', 'count(lvs_service_quorum{%s} == 0) or vector(0)' % all, steps=bad),
          panels.number('Servers up', 'sum(lvs_server_up{%s})' % all),
          panels.number('Servers down', 'count(lvs_server_up{%s} == 0) or vector(0)' % all, steps=bad),
          panels.number(
            'Held by people',
            'sum(lvs_server_admin_out{%s})' % all,
            description='Drained, in maintenance, or at an administrator\'s weight 0',
          ),
        ]),
        panels.row('Servers', 9, [
          panels.table(
            'Servers',
            [
              ['max by (instance, service, server) (lvs_server_up{%s})' % all, 'up', 'none'],
              ['max by (instance, service, server) (lvs_server_weight{%s})' % all, 'weight', 'none'],
              ['max by (instance, service, server) (lvs_server_table_weight{%s})' % all, 'in the table', 'none'],
              [
                'time() - max by (instance, service, server) (lvs_server_state_since_timestamp_seconds{%s})' % all,
                'for',
                's',
              ],
              ['max by (instance, service, server) (lvs_server_contradiction{%s})' % all, 'clients fail', 'none'],
              ['max by (instance, service, server) (lvs_passive_signal{%s})' % all, 'signal', 'none'],
              ['server:node_ipvs_backend_connections_active:sum{%s}' % all, 'connections', 'short'],
            ],
            ['job'],
            description='"connections" needs node_exporter on the same machine',
          ),
        ]),
        panels.row('Over time', 8, [
          panels.states(
            'States of servers', 'lvs_server_up{%s}' % all, '{{service}} {{server}}',
            description='Nothing where it is not known, or an administrator holds the server out',
          ),
          panels.lines(
            'Servers that serve, by service',
            [['service:lvs_servers_serving:count{%s}' % all, '{{instance}} {{service}}']],
          ),
        ]),
        panels.row('Traffic', 8, [
          panels.lines(
            'Handshakes a second, by service',
            [['service:lvs_passive_handshakes:rate5m{%s}' % all, '{{service}}']],
            'cps',
            description='As the eBPF programs see them',
          ),
          panels.lines(
            'Longest handshakes of 100, by service',
            [['service:lvs_passive_handshake_seconds:p99_5m{%s}' % all, '{{service}}']],
            's',
            description='From a SYN to the SYN-ACK; where that is not seen, to the client\'s ACK',
          ),
          panels.lines(
            'SYNs refused or sent again',
            [
              ['sum by (service) (rate(lvs_passive_refused_total{%s}[$__rate_interval]))' % all, '{{service}} refused'],
              ['sum by (service) (rate(lvs_passive_syn_again_total{%s}[$__rate_interval]))' % all, '{{service}} again'],
            ],
            'cps',
          ),
        ]),
        panels.row('Checks', 8, [
          panels.lines(
            'Longest checks of 100, by kind',
            [['check:lvs_check_seconds:p99_5m{%s}' % agent, '{{instance}} {{check}}']],
            's',
          ),
          panels.lines(
            'Checks that fail',
            [['sum by (service) (lvs_check_success{%s} == bool 0)' % all, '{{service}}']],
          ),
          panels.heatmap(
            'From evidence to edit',
            'sum by (le) (increase(lvs_failover_seconds_bucket{%s}[$__rate_interval]))' % agent,
            description='How long failovers took: from the first evidence against a server to the edit that took it out',
          ),
        ]),
      ],
    ),
  },
}
