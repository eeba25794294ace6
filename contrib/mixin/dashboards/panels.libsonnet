// Panels and dashboards in as many words as are needed here, for Grafana 9 and later.
{
  local datasource = { type: 'prometheus', uid: '${datasource}' },

  target(expr, legend='', format='time_series', instant=false):: {
    datasource: datasource,
    expr: expr,
    legendFormat: legend,
    format: format,
    instant: instant,
    range: !instant,
  },

  // Lines over time. `targets`: pairs of a query and its legend.
  lines(title, targets, unit='short', description='', stacked=false):: {
    type: 'timeseries',
    title: title,
    description: description,
    datasource: datasource,
    targets: [
      $.target(targets[i][0], targets[i][1]) { refId: std.char(65 + i) }
      for i in std.range(0, std.length(targets) - 1)
    ],
    fieldConfig: {
      defaults: {
        unit: unit,
        min: 0,
        custom: {
          fillOpacity: if stacked then 30 else 5,
          lineWidth: 1,
          showPoints: 'never',
          stacking: { mode: if stacked then 'normal' else 'none' },
        },
      },
      overrides: [],
    },
    options: { tooltip: { mode: 'multi', sort: 'desc' }, legend: { displayMode: 'list', placement: 'bottom' } },
  },

  // One number now. `steps`: from which value on which colour.
  number(title, expr, unit='short', steps=[{ color: 'text', value: null }], description='', legend=''):: {
    type: 'stat',
    title: title,
    description: description,
    datasource: datasource,
    targets: [$.target(expr, legend, instant=true) { refId: 'A' }],
    fieldConfig: { defaults: { unit: unit, thresholds: { mode: 'absolute', steps: steps } }, overrides: [] },
    options: {
      reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
      colorMode: 'value',
      textMode: if legend == '' then 'value' else 'name',
      graphMode: 'none',
    },
  },

  // States over time: 0 is bad, 1 is good.
  states(title, expr, legend, description=''):: {
    type: 'state-timeline',
    title: title,
    description: description,
    datasource: datasource,
    targets: [$.target(expr, legend) { refId: 'A' }],
    fieldConfig: {
      defaults: {
        mappings: [{
          type: 'value',
          options: { '0': { text: 'down', color: 'red', index: 0 }, '1': { text: 'up', color: 'green', index: 1 } },
        }],
        custom: { fillOpacity: 70, lineWidth: 0 },
      },
      overrides: [],
    },
    options: { showValue: 'never', mergeValues: true, legend: { showLegend: false } },
  },

  // How often which duration, over time.
  heatmap(title, expr, description=''):: {
    type: 'heatmap',
    title: title,
    description: description,
    datasource: datasource,
    targets: [$.target(expr, '{{le}}', 'heatmap') { refId: 'A' }],
    options: {
      calculate: false,
      yAxis: { unit: 's' },
      color: { mode: 'scheme', scheme: 'Oranges', steps: 64 },
      tooltip: { show: true },
    },
  },

  // A table with a row for each set of labels. `columns`: query, title and unit of each.
  table(title, columns, hidden, description=''):: {
    local names = [std.char(65 + i) for i in std.range(0, std.length(columns) - 1)],
    type: 'table',
    title: title,
    description: description,
    datasource: datasource,
    targets: [
      $.target(columns[i][0], '', 'table', instant=true) { refId: names[i] }
      for i in std.range(0, std.length(columns) - 1)
    ],
    transformations: [
      { id: 'merge', options: {} },
      {
        id: 'organize',
        options: {
          excludeByName: { Time: true } + { [label]: true for label in hidden },
          renameByName: {
            ['Value #' + names[i]]: columns[i][1]
            for i in std.range(0, std.length(columns) - 1)
          },
        },
      },
    ],
    fieldConfig: {
      defaults: { custom: { align: 'auto', filterable: true } },
      overrides: [
        { matcher: { id: 'byName', options: column[1] }, properties: [{ id: 'unit', value: column[2] }] }
        for column in columns
      ],
    },
    options: { showHeader: true, footer: { show: false } },
  },

  // Panels side by side, `width` of 24 and `height` each; rows of them from top to bottom.
  row(title, height, panels):: { title: title, height: height, panels: panels },

  local placed(rows) = std.foldl(
    function(state, row)
      local width = std.floor(24 / std.length(row.panels));
      local head = {
        type: 'row',
        title: row.title,
        collapsed: false,
        panels: [],
        gridPos: { x: 0, y: state.y, w: 24, h: 1 },
      };
      local panels = [
        row.panels[i] { gridPos: { x: i * width, y: state.y + 1, w: width, h: row.height } }
        for i in std.range(0, std.length(row.panels) - 1)
      ];
      { y: state.y + 1 + row.height, panels: state.panels + [head] + panels },
    rows,
    { y: 0, panels: [] }
  ).panels,

  variable(name, query, multi=true):: {
    name: name,
    label: name,
    type: 'query',
    datasource: datasource,
    query: { query: query, refId: name },
    definition: query,
    refresh: 2,
    sort: 1,
    multi: multi,
    includeAll: multi,
    allValue: if multi then '.+' else null,
    current: if multi then { selected: true, text: 'All', value: '$__all' } else {},
  },

  dashboard(uid, title, config, variables, rows):: {
    local panels = placed(rows),
    uid: uid,
    title: title,
    tags: config.dashboardTags,
    editable: true,
    schemaVersion: 38,
    version: 1,
    refresh: config.refresh,
    time: { from: 'now-1h', to: 'now' },
    timezone: 'browser',
    graphTooltip: 1,
    links: [{
      type: 'dashboards',
      title: 'lvs-agent',
      tags: config.dashboardTags,
      asDropdown: true,
      includeVars: true,
      keepTime: true,
    }],
    templating: {
      list: [{
        name: 'datasource',
        label: 'data source',
        type: 'datasource',
        query: 'prometheus',
        current: {},
      }] + variables,
    },
    annotations: { list: [] },
    panels: [panels[i] { id: i + 1 } for i in std.range(0, std.length(panels) - 1)],
  },
}
