// What differs from site to site. A mixin that imports this one sets it with `_config+:: { … }`.
{
  _config+:: {
    // Which series are the agent's.
    lvsAgentSelector: 'job="lvs-agent"',
    // And which node_exporter's, on the same machines.
    nodeExporterSelector: 'job="node"',
    // What makes an agent's machine the same one as a node_exporter's: here the part of `instance` before the port.
    hostLabel: 'host',
    hostOfInstance: '([^:]+|\\[.+\\])(?::\\d+)?',

    // An agent whose checks have had no result for so long decides nothing. Longer than the longest interval of a check.
    staleChecksSeconds: 300,
    // Suspicions that were not probed, in ten minutes. A few are normal where a kind of evidence was refuted often.
    withheldProbes: 20,

    runbookURL: 'https://lvs-agent.example/docs/alerts.md#%s',
    dashboardTags: ['lvs', 'lvs-agent'],
    refresh: '10s',
  },
}
