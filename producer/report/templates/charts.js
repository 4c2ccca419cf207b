// Histograms of one label at a time, with the threshold that is suggested for it.

function drawHistogram(figure, model, label, whole) {
  const bins = label === '' ? whole.bins : model.histograms[label];
  const most = Math.max(1, ...bins);
  figure.querySelectorAll('rect').forEach((bar, number) => {
    const height = 100 * bins[number] / most;
    bar.setAttribute('y', 100 - height);
    bar.setAttribute('height', height);
    bar.querySelector('title').textContent = `${(number / bins.length).toFixed(2)} to ${((number + 1) / bins.length).toFixed(2)}: ${counted(bins[number])}`;
  });
  figure.querySelector('.most').textContent = counted(most);
  const threshold = label === '' ? null : model.thresholds[label], line = figure.querySelector('.threshold');
  line.setAttribute('visibility', threshold === null ? 'hidden' : 'visible');
  if (threshold !== null) {
    line.setAttribute('x1', threshold * bins.length);
    line.setAttribute('x2', threshold * bins.length);
  }
  const said = label === '' ? whole.said : `The scores of ${model.labels[label]}, ${plural(model.counts[label], 'time', 'times')} given. `
    + (threshold === null ? 'No threshold is suggested for it.' : `The line is its suggested threshold, ${threshold.toFixed(3)}.`);
  figure.querySelector('.said').textContent = said;
}

function startCharts() {
  for (const figure of document.querySelectorAll('.histogram')) {
    const model = tables.models[Number(figure.dataset.model)];
    const select = figure.querySelector('select');
    const bins = Object.values(model.histograms).reduce((sum, one) => sum.map((count, at) => count + one[at]), Array(tables.bins).fill(0));
    const whole = { bins, said: figure.querySelector('.said').textContent };
    const given = Object.keys(model.histograms).sort((one, other) => model.counts[other] - model.counts[one]);
    select.append(...given.map(label => element('option', { value: label }, `${model.labels[label]} (${counted(model.counts[label])})`)));
    select.closest('.choose').hidden = false;
    select.addEventListener('change', () => drawHistogram(figure, model, select.value, whole));
  }
}
