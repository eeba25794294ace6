// Few alerts, on what clients or operators notice. docs/alerts.md has a section on each.
{
  local config = $._config,
  local agent = config.lvsAgentSelector,
  local id = 'job, instance',
  local service = id + ', service',
  local server = service + ', server',

  // The servers in the kernel's table that get connections and may be alive.
  local serving = |||
    (
      lvs_server_table_weight{%(agent)s} > 0
      unless on (%(server)s)
      lvs_server_up{%(agent)s} == 0
    )
  ||| % { agent: agent, server: server },
  local withReachableTable = |||
    and on (%(id)s)
    lvs_table_reachable{%(agent)s} == 1
  ||| % { agent: agent, id: id },

  local alert(name, severity, duration, expr, summary, description) = {
    alert: name,
    // With a newline at its end it is shown as lines.
    local text = std.rstripChars(expr, '\n'),
    expr: if std.length(std.findSubstr('\n', text)) > 0 then text + '\n' else text,
    'for': duration,
    labels: { severity: severity },
    annotations: {
      summary: summary,
      description: description,
      runbook_url: config.runbookURL % std.asciiLower(name),
    },
  },

  prometheusAlerts+:: {
    groups+: [
      {
        name: 'lvs-services',
        rules: [
          alert(
            'LvsServiceWithoutServer',
            'critical',
            '30s',
            |||
              group by (%(service)s) (lvs_server_info{%(agent)s})
              unless on (%(service)s)
              %(serving)s%(reachable)s
            ||| % { service: service, agent: agent, serving: serving, reachable: withReachableTable },
            'A virtual service has no server.',
            'No server of {{ $labels.service }} on {{ $labels.instance }} gets connections and may be alive: clients are refused or time out.',
          ),
          alert(
            'LvsQuorumLost',
            'warning',
            '1m',
            'lvs_service_quorum{%s} == 0' % agent,
            'Too few servers of a virtual service are healthy.',
            'Fewer servers of {{ $labels.service }} on {{ $labels.instance }} are healthy than its quorum asks for.',
          ),
          alert(
            'LvsServersRetained',
            'warning',
            '2m',
            'lvs_service_alarm{%s} == 1' % agent,
            'Servers that look dead are kept in the table.',
            'More servers of {{ $labels.service }} on {{ $labels.instance }} look dead at once than may be taken out so fast; the regular checks decide.',
          ),
          alert(
            'LvsServerDown',
            'warning',
            '15m',
            'lvs_server_up{%s} == 0' % agent,
            'A real server is down for long.',
            '{{ $labels.server }} of {{ $labels.service }} on {{ $labels.instance }} has failed its checks for 15 minutes.',
          ),
          alert(
            'LvsClientsFail',
            'warning',
            '5m',
            'lvs_server_contradiction{%s} == 1' % agent,
            'Clients of a real server fail while its checks succeed.',
            'Clients of {{ $labels.server }} in {{ $labels.service }} on {{ $labels.instance }} get no connection or no answer, and every check says that it is well.',
          ),
        ],
      },
      {
        name: 'lvs-agent',
        rules: [
          alert(
            'LvsAgentGone',
            'critical',
            '1m',
            'up{%s} == 0' % agent,
            'The LVS agent does not answer.',
            'lvs-agent on {{ $labels.instance }} has not answered for a minute: forwarding goes on, but servers that die stay in the table.',
          ),
          alert(
            'LvsAgentRestarts',
            'warning',
            '0m',
            'changes(process_start_time_seconds{%s}[15m]) > 2' % agent,
            'The LVS agent ends again and again.',
            'lvs-agent on {{ $labels.instance }} was started {{ $value }} times in 15 minutes.',
          ),
          alert(
            'LvsAgentNotDeciding',
            'critical',
            '1m',
            'time() - max by (%s) (lvs_check_timestamp_seconds{%s}) > %d' % [id, agent, config.staleChecksSeconds],
            'The LVS agent decides nothing.',
            'No check of lvs-agent on {{ $labels.instance }} has had a result for {{ $value | humanizeDuration }}.',
          ),
          alert(
            'LvsConfigReloadFailed',
            'warning',
            '5m',
            'lvs_config_last_reload_successful{%s} == 0' % agent,
            'The configuration of the LVS agent has a fault.',
            'lvs-agent on {{ $labels.instance }} could not read its configuration; the old one stays in force.',
          ),
          alert(
            'LvsProbesWithheld',
            'warning',
            '10m',
            'increase(lvs_probes_withheld_total{%s}[10m]) > %d' % [agent, config.withheldProbes],
            'Suspicions of the LVS agent are not probed.',
            '{{ $value | humanize }} suspicions on {{ $labels.instance }} were not probed in 10 minutes: failures are found by the regular checks only.',
          ),
          alert(
            'LvsPassiveBlind',
            'warning',
            '5m',
            'lvs_passive_blind{%s} == 1' % agent,
            'The passive signal sees no packets.',
            'The eBPF programs on {{ $labels.device }} ({{ $labels.direction }}) of {{ $labels.instance }} see hardly any of the packets that IPVS balances.',
          ),
        ],
      },
      {
        name: 'lvs-table',
        rules: [
          alert(
            'LvsTableOutOfReach',
            'critical',
            '1m',
            'lvs_table_reachable{%s} == 0' % agent,
            "The kernel's IPVS table can't be read or edited.",
            "lvs-agent on {{ $labels.instance }} can neither read nor edit the kernel's IPVS table.",
          ),
          alert(
            'LvsTableNotAsWanted',
            'warning',
            '2m',
            |||
              (
                count by (%(service)s) (
                  lvs_server_weight{%(agent)s} != on (%(server)s) lvs_server_table_weight{%(agent)s}
                  or
                  lvs_server_weight{%(agent)s} unless on (%(server)s) lvs_server_table_weight{%(agent)s}
                  or
                  lvs_server_table_weight{%(agent)s} unless on (%(server)s) lvs_server_weight{%(agent)s}
                )
                and on (%(id)s)
                lvs_agent_info{%(agent)s, mode!="observe"}
              )
              %(reachable)s
            ||| % { service: service, server: server, agent: agent, id: id, reachable: withReachableTable },
            "The kernel's IPVS table is not as the LVS agent wants it.",
            '{{ $value }} servers of {{ $labels.service }} on {{ $labels.instance }} have another weight in the table than they shall have, or should not be there.',
          ),
          alert(
            'LvsTableContended',
            'warning',
            '5m',
            'lvs_table_contended{%s} == 1' % agent,
            'Another program keeps changing a virtual service.',
            'Others keep changing {{ $labels.service }} on {{ $labels.instance }}; it is changed back ever more rarely.',
          ),
        ],
      },
    ],
  },
}
