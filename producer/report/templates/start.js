// Start the page.

grid.start();
viewer.start();
startCharts();
startFilters();
startDuplicates();
document.documentElement.dataset.ready = 'yes';
