// How the agent itself is.
local panels = import 'panels.libsonnet';
{
  local config = $._config,
  local agent = config.lvsAgentSelector + ', instance=~"$instance"',
  local good = [{ color: 'red', value: null }, { color: 'green', value: 1 }],

  grafanaDashboards+:: {
    'lvs-agent.json': panels.dashboard(
      'lvs-agent-itself',
      'LVS: the agent',
      config,
      [panels.variable('instance', 'label_values(lvs_build_info{%s}, instance)' % config.lvsAgentSelector)],
      [
        panels.row('Now', 4, [
          panels.number('Agents', 'sum(up{%s})' % agent, steps=good),
          panels.number('Mode', 'lvs_agent_info{%s}' % agent, legend='{{mode}}'),
          panels.number('Version', 'lvs_build_info{%s}' % agent, legend='{{version}}'),
          panels.number('Table in reach', 'min(lvs_table_reachable{%s})' % agent, steps=good),
          panels.number('Last reload succeeded', 'min(lvs_config_last_reload_successful{%s})' % agent, steps=good),
          panels.number(
            'Since the last check',
            'time() - min(max by (instance) (lvs_check_timestamp_seconds{%s}))' % agent,
            's',
            [{ color: 'green', value: null }, { color: 'red', value: config.staleChecksSeconds }],
          ),
        ]),
        panels.row('Decisions', 8, [
          panels.lines(
            'Suspicions, by kind',
            [['sum by (kind) (rate(lvs_suspicions_total{%s}[$__rate_interval]))' % agent, '{{kind}}']],
            'cps',
          ),
          panels.lines(
            'What became of suspicions',
            [
              ['rate(lvs_suspicions_cleared_total{%s}[$__rate_interval])' % agent, 'cleared by a probe'],
              ['rate(lvs_common_suspicions_total{%s}[$__rate_interval])' % agent, 'most of a service at once'],
              ['rate(lvs_probes_withheld_total{%s}[$__rate_interval])' % agent, 'not probed'],
            ],
            'cps',
          ),
          panels.lines(
            'Hints, by result',
            [['sum by (result) (rate(lvs_hints_total{%s}[$__rate_interval]))' % agent, '{{result}}']],
            'cps',
          ),
        ]),
        panels.row('Probes and edits', 8, [
          panels.lines(
            'Probes, by kind and outcome',
            [['sum by (kind, outcome) (rate(lvs_probes_total{%s}[$__rate_interval]))' % agent, '{{kind}} {{outcome}}']],
            'cps',
          ),
          panels.lines(
            'Edits of the table, by result',
            [['sum by (result) (rate(lvs_table_edits_total{%s}[$__rate_interval]))' % agent, '{{result}}']],
            'cps',
          ),
          panels.lines(
            'Others change the table',
            [
              ['rate(lvs_table_interferences_total{%s}[$__rate_interval])' % agent, 'changed back'],
              ['sum by (service) (lvs_table_contended{%s})' % agent, 'contended: {{service}}'],
            ],
          ),
        ]),
        panels.row('The passive signal', 8, [
          panels.lines(
            'Servers without a signal, by reason',
            [['count by (reason) (lvs_passive_signal{%s} == 0)' % agent, '{{reason}}']],
          ),
          panels.lines(
            'Packets that count for no server, by reason',
            [['sum by (reason) (rate(lvs_passive_unattributed_total{%s}[$__rate_interval]))' % agent, '{{reason}}']],
            'pps',
          ),
          panels.lines(
            'Fill of the eBPF maps',
            [['lvs_passive_map_entries{%(a)s} / lvs_passive_map_max_entries{%(a)s}' % { a: agent }, '{{instance}} {{map}}']],
            'percentunit',
          ),
          panels.lines(
            'Lost and late',
            [
              ['rate(lvs_passive_edges_lost_total{%s}[$__rate_interval])' % agent, 'edges lost'],
              ['rate(lvs_passive_handshakes_lost_total{%s}[$__rate_interval])' % agent, 'handshakes lost'],
              ['rate(lvs_passive_stalls_total{%s}[$__rate_interval])' % agent, 'late ticks'],
              ['sum by (device, direction) (lvs_passive_blind{%s})' % agent, 'blind: {{device}} {{direction}}'],
            ],
          ),
        ]),
        panels.row('What it takes', 8, [
          panels.lines(
            'Processor',
            [['rate(process_cpu_seconds_total{%s}[$__rate_interval])' % agent, '{{instance}}']],
            'percentunit',
            description='1 is a whole core',
          ),
          panels.lines(
            'Memory',
            [
              ['process_resident_memory_bytes{%s}' % agent, '{{instance}}'],
              ['lvs_passive_maps_bytes{%s}' % agent, '{{instance}} eBPF maps'],
            ],
            'bytes',
          ),
          panels.lines(
            'Open files',
            [['process_open_fds{%(a)s} / process_max_fds{%(a)s}' % { a: agent }, '{{instance}}']],
            'percentunit',
          ),
        ]),
      ],
    ),
  },
}
