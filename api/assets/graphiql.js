// Queries only: what is sent from here is unsigned, and the server refuses unsigned mutations.
(function () {
  'use strict';
  var example = [
    '# What is public can be read without a signature.',
    '{',
    '  info',
    '  ads { workClass region pricePerUnit reachable }',
    '  transparency {',
    '    outcomes { state cause orders share: shareOfOrders }',
    '    latencySegments { segment orders p50Ms p95Ms }',
    '    conservation { asset difference }',
    '  }',
    '}',
    ''
  ].join('\n');
  function fetcher(request) {
    return fetch('/graphql', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Accept: 'application/graphql-response+json, application/json' },
      body: JSON.stringify(request)
    }).then(function (response) { return response.json(); });
  }
  var root = ReactDOM.createRoot(document.getElementById('graphiql'));
  root.render(React.createElement(GraphiQL, {
    fetcher: fetcher,
    defaultQuery: example,
    defaultEditorToolsVisibility: false,
    shouldPersistHeaders: false,
    isHeadersEditorEnabled: false
  }));
})();
