(()=>{const tip=document.getElementById('tip');for(const figure of document.querySelectorAll('.chart')){
const svg=figure.querySelector(':scope>svg'),lines=JSON.parse(figure.querySelector('script').textContent),cross=svg.querySelector('.cross'),dots=svg.querySelector('.dots');
const hide=()=>{tip.style.opacity=0;cross.style.opacity=0;dots.replaceChildren()};
svg.addEventListener('pointerleave',hide);
svg.addEventListener('pointermove',event=>{const box=svg.getBoundingClientRect(),x=(event.clientX-box.left)*svg.viewBox.baseVal.width/box.width;
tip.replaceChildren();dots.replaceChildren();let head=null;
for(const line of lines){let best=null;for(const point of line.p)if(!best||Math.abs(point[0]-x)<Math.abs(best[0]-x))best=point;
if(!best)continue;if(!head){head=best;const row=document.createElement('i');row.textContent=best[2];tip.append(row)}
const row=document.createElement('div');row.textContent=line.n+'  '+best[3];tip.append(row);
const dot=document.createElementNS('http://www.w3.org/2000/svg','circle');dot.setAttribute('cx',best[0]);dot.setAttribute('cy',best[1]);dot.setAttribute('r',4);dot.setAttribute('class','dot c'+line.c);dots.append(dot)}
if(!head)return hide();cross.setAttribute('x1',head[0]);cross.setAttribute('x2',head[0]);cross.style.opacity=1;tip.style.opacity=1;
const width=tip.offsetWidth,left=event.clientX+16+width>innerWidth?event.clientX-16-width:event.clientX+16;tip.style.left=left+'px';tip.style.top=(event.clientY+14)+'px'})}})();
