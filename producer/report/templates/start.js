// Start the page.

grid.start();
viewer.start();
startCharts();
startFilters();
document.documentElement.dataset.ready = 'yes';
